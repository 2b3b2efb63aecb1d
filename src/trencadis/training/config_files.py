"""A run's config as a YAML file."""

from pathlib import Path

import yaml

from trencadis.config import RunConfig
from trencadis.config.plain import Settings, from_plain, to_plain
from trencadis.errors import ConfigError
from trencadis.storage import write_whole


def read_settings(path: Path) -> Settings:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: It cannot be read, or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: {reason}", expected="a YAML file of settings", remedy="correct the file") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        found = f"{path} holds a {type(content).__name__}"
        raise ConfigError(found, expected="a mapping of settings", remedy="start from a run's config.yaml")
    return content


def read_config(path: Path) -> RunConfig:
    """Return the config in a run's `config.yaml`; what is absent has its default.

    Raises:
        ConfigError: The file cannot be read, or a setting is wrong.
    """
    return from_plain(RunConfig, read_settings(path))


def write_config(path: Path, config: RunConfig) -> None:
    write_whole(path, yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True))
