"""Write 60 captioned drawings in a style that the shipped model has never seen: black ink, without colours.

    python examples/tune/drawings.py --out ink

The drawings are Microsoft's Fluent Emoji in high contrast, from npm, pinned and read as `examples/emoji` does.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "emoji"))

from articles import with_article
from packages import BuildError, Package, fetch, icons_of
from pictures import draw, on_white

PACKAGE = Package(
    "@iconify-json/fluent-emoji-high-contrast",
    "1.2.6",
    "sha512-esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
    "MIT",
)
STYLE = "ink style"
SIZE = 128
_NAMES = """
airplane anchor apple avocado banana bear bell bicycle bird bomb book bread broccoli butterfly cactus camel camera
candle carrot castle cherries clown-face cow crown cup-with-straw dolphin doughnut drum duck elephant envelope fish
flower gem-stone ghost grapes guitar hammer hamburger horse house key lemon light-bulb locked mouse mushroom octopus
owl pencil penguin pizza rabbit sailboat scissors snail snowman star sunflower umbrella
"""
NAMES = tuple(_NAMES.split())
"""What the model is shown in the new style. Cats, dogs, hearts, rockets and all other things it is not."""
ICONS = {"apple": "red-apple", "book": "closed-book", "flower": "blossom"}  # whose name is another one


def captioned(icons: Mapping[str, bytes]) -> dict[str, tuple[bytes, list[str]]]:
    """Return each drawing as SVG text, and its captions.

    Raises:
        BuildError: The package lacks one.
    """
    found = {}
    for name in NAMES:
        icon = ICONS.get(name, name)
        if icon not in icons:
            raise BuildError(f"{PACKAGE.spec} has no drawing {icon}")
        thing = with_article(name.replace("-", " "))
        found[name] = icons[icon], [f"{thing}, {STYLE}", f"{thing} in {STYLE}"]
    return found


def write(out: Path, icons: Mapping[str, bytes]) -> int:
    """Write the drawings with captions beside them into a new folder, whole or not at all; return how many there are.

    Raises:
        BuildError: The folder holds something, or the package lacks a drawing.
    """
    if out.exists() and any(out.iterdir()):
        raise BuildError(f"{out} is not empty: choose another --out")
    found = captioned(icons)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".drawing-") as folder:
        new = Path(folder, "new")
        new.mkdir()
        for name, (content, captions) in found.items():
            on_white(draw(content, "flat", SIZE)).save(new / f"{name}.png")
            (new / f"{name}.txt").write_text("\n".join(captions) + "\n", "utf-8")
        new.replace(out)
    return len(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Write 60 captioned drawings in black ink.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "trencadis", "npm")
    about = f"where the tarball is kept ({default})"
    parser.add_argument("--cache", type=Path, default=default, metavar="DIR", help=about)
    options = parser.parse_args(arguments)
    try:
        count = write(options.out, icons_of(fetch(PACKAGE, options.cache)))
    except BuildError as fault:
        print(f"drawings.py: {fault}", file=sys.stderr)
        return 2
    print(f"{options.out}: {count} drawings with captions, {PACKAGE.licence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
