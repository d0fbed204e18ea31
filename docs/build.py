"""Writes the reference pages that are generated from the code: `python -m docs.build`. A test compares."""

from pathlib import Path

from docs.generators import alerts, commands, events, settings, situations

FOLDER = Path(__file__).parent


def generated() -> dict[Path, str]:
    """All generated files with their contents."""
    pages = {
        "commands": commands.page,
        "settings": settings.page,
        "events": events.page,
        "alerts": alerts.page,
        "situations": situations.page,
    }
    return {FOLDER / "reference" / f"{name}.md": page() for name, page in pages.items()}


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")
