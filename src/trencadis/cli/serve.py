"""`trencadis serve`: the OpenAI Images API and a web page over HTTP."""

import importlib.util
import os

import jsonargparse

from trencadis.cli.arguments import existing_file, integer, model_name, real, text
from trencadis.console import tell
from trencadis.errors import ConfigError

HELP = "serves a web page and the OpenAI Images API"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_SETTINGS = (
    "batch_size", "weights", "max_waiting", "max_candidates", "deadline_s", "grace_s", "rate_limit", "max_body_bytes",
    "link_minutes", "log_prompts",
)  # fmt: skip


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = "a shipped model, a model directory, or a hub id; NAME=MODEL gives it a name; several times for several"
    add("--model", action="append", type=model_name(), help=f"{about} (default: emoji)")
    add("--host", type=text(), default="127.0.0.1", help="address to listen on; 0.0.0.0 is all")
    add("--port", type=integer(0, 65535), default=8000, help="port to listen on; 0 is any that is free")
    about = "file of SHA-256 digests of API keys, as sha256sum prints them; more keys in TRENCADIS_API_KEYS"
    add("--keys-file", type=existing_file(), help=about)
    add("--rate-limit", type=integer(1), help="requests a minute of each key, or of each address without keys")
    add("--max-waiting", type=integer(1), default=64, help="requests of a model that are drawn or wait")
    add("--max-candidates", type=integer(10, 4096), default=64, help="pictures that a request may draw")
    add("--max-body-bytes", type=integer(1024), default=16 * 2**20, help="size of a request")
    add("--deadline-s", type=real(0.1), default=120.0, help="seconds until a request is given up")
    add("--grace-s", type=real(0), default=60.0, help="seconds to finish what was taken in, after SIGTERM")
    add("--link-minutes", type=real(0.001), default=60.0, help="how long the URL of a picture is good for")
    about = "origin whose pages may use the API, such as https://example.org; several times for several"
    add("--allow-origin", action="append", type=text(), metavar="ORIGIN", help=about)
    about = "smaller ones are read faster; pictures change a little (default: the type that the model is stored in)"
    add("--weights", choices=["float32", "bfloat16", "int8"], help=about)
    add("--batch-size", type=integer(1, 1024), default=32, help="pictures of a model that are drawn at a time")
    add("--threads", type=integer(1), help="that draw, of all models together (default: one a core)")
    add("--device", choices=["cpu", "cuda"], help="(default: cuda where there is one)")
    add("--open", action="store_true", help="open the web page, where there is a screen")
    add("--log-prompts", action="store_true", help="write prompts into the log")


def run(arguments: jsonargparse.Namespace) -> int:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "install them with `pip install 'trencadis[serve]'`"
        raise ConfigError(f"no {' and no '.join(missing)}", expected="the packages of the extra serve", remedy=remedy)
    import warnings

    import torch

    from trencadis.devices import usable_device
    from trencadis.pipeline import DALLE
    from trencadis.sampling import ImagePromptWarning
    from trencadis.serving.application import build_application
    from trencadis.serving.keys import Keys
    from trencadis.serving.server import serve
    from trencadis.serving.settings import ServingConfig
    from trencadis.text.tokenizer import CaptionCutWarning

    origins = tuple(arguments.allow_origin or ())
    keys_file = None if arguments.keys_file is None else str(arguments.keys_file)
    chosen = {name: arguments[name] for name in _SETTINGS}
    config = ServingConfig(**chosen, keys_file=keys_file, allow_origins=origins)
    keys = Keys.read(config.keys_file, os.environ)
    if arguments.host not in _LOOPBACK and not keys:
        tell(f"trencadis: warning: everybody who reaches {arguments.host} can draw; give keys with --keys-file")
    named = _named(arguments.model or ["emoji"])
    torch.set_num_threads(max(1, (arguments.threads or os.cpu_count() or 1) // len(named)))
    device = usable_device(arguments.device)
    models = {name: DALLE.from_pretrained(model).to(device) for name, model in named.items()}
    # These speak to one client; the answer says it.
    for category in (CaptionCutWarning, ImagePromptWarning):
        warnings.simplefilter("ignore", category)
    app = build_application(models, config, keys)
    serve(app, config, host=arguments.host, port=arguments.port, opens_page=arguments.open)
    return 0


def _named(given: list[str]) -> dict[str, str]:
    """Return the models by their names."""
    named: dict[str, str] = {}
    for each in given:
        name, equals, model = each.partition("=")
        name, model = (name, model) if equals else (each.rstrip("/").rpartition("/")[2] or each, each)
        if not name or not model or name in named:
            remedy = "name each model once, as in --model emoji --model mine=runs/mine/model"
            raise ConfigError(f"--model {each}", expected="NAME=MODEL with a name of its own", remedy=remedy)
        named[name] = model
    return named
