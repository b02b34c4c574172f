"""How Sphinx builds the site: `python -m sphinx -W docs site`, with the extra `docs`.

The build asks no network, and neither do the pages.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
_about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = _about["name"]
author = _about["authors"][0]["name"]
copyright = author
release = version = _about["version"]

extensions = [
    "docs.builder",  # first: it writes the pages that the others read
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "myst_nb",
]
exclude_patterns = ["**.py", "builder"]

html_theme = "furo"
html_title = f"clipax {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
# The notebooks bring widgets along that nothing here uses, from another server.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_execution_mode = "off"
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

# In a docstring `clip_by_value` links to what has that name; `b1` is only set as code.
default_role = "py:obj"
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name
    for name in ("Array", "AxisName", "NonFinite", "Norms", "Params", "Scalar", "Updates", "Where")
} | {"ScalarOrSchedule": "ScalarOrSchedule"}
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Else what stands before a colon is taken for a type.
napoleon_custom_sections = ["Returns"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
