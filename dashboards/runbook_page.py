"""The runbooks as a page that Prometheus serves itself, so that an alert's link opens wherever Prometheus does.

A rule knows one address: that of the Prometheus that evaluates it, `$externalURL`. What lies in the folder of console
templates is served there, under /consoles.
"""

# Rich's own, which is always there.
from markdown_it import MarkdownIt

PAGE = """<!doctype html>
<!-- Generated from dashboards/runbooks.md by `python -m dashboards.build`. -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Streamgauge: runbooks</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
ul {{ columns: 18rem; padding-left: 1.2rem; }}
h2 {{ font-size: 1.2rem; margin-top: 2.5rem; overflow-wrap: anywhere; }}
section:target h2 {{ border-left: .3rem solid; padding-left: .6rem; }}
</style>
</head>
<body>
<h1>Runbooks</h1>
<p>M is the dashboard <em>ML Model Monitoring</em>, O is <em>Streamgauge Operations</em>.</p>
<ul>
{contents}
</ul>
{sections}
</body>
</html>
"""


def page(runbooks: str) -> str:
    """The page of the runbooks, which are Markdown with a section an alert; its anchor is the name in small letters."""
    # What is no Markdown is shown as it stands, and nothing is a tag.
    markdown = MarkdownIt("commonmark", {"html": False})
    _intro, *sections = runbooks.split("\n## ")
    named = [section.partition("\n") for section in sections]
    return PAGE.format(
        contents="\n".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name, _newline, _content in named),
        sections="\n".join(
            f'<section id="{name.lower()}">\n<h2>{name}</h2>\n{markdown.render(content)}</section>'
            for name, _newline, content in named
        ),
    )
