"""Sphinx transform: what stands between markers becomes a synchronized tab set.

A marker is a block break of MyST: `+++ tab: NAME LABEL` opens a tab (and closes the one
before), `+++ tab: end` closes the set.  Between them any blocks may stand, code cells
with their outputs too: myst-nb has no way to nest those in a directive.
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx_design.shared import create_component

MARK = "tab: "
GROUP = "framework"  # tab sets of a group switch together; also the URL's parameter


class Tabs(SphinxTransform):
    default_priority = 300  # while a page is read, after its cells were rendered

    def apply(self):
        for parent in {id(m.parent): m.parent for m in self.markers()}.values():
            parent.children = list(self.wrapped(parent))

    def markers(self):
        return [n for n in self.document.findall(nodes.comment) if label_of(n)]

    def wrapped(self, parent):
        """The children of a node, those between markers replaced by tab sets."""
        tab_set = content = None
        for child in parent.children:
            label = label_of(child)
            if label == "end":
                yield tab_set
                tab_set = content = None
            elif label:
                tab_set = tab_set or component("tab-set", parent)
                content = component("tab-content", tab_set)
                tab_set.append(tab_item(*label.split(maxsplit=1), content))
            elif content is None:
                yield child
            else:
                content.append(child)
        if tab_set is not None:
            raise ValueError(f"{self.env.docname}: a tab set without an end")


def label_of(node):
    """`NAME LABEL` or `end` of a marker; None for any other node."""
    if isinstance(node, nodes.comment) and "block_break" in node["classes"]:
        text = node.astext().strip()
        return text.removeprefix(MARK) if text.startswith(MARK) else None


def component(name, parent):
    made = create_component(name, classes=[f"sd-{name}"])
    made.source, made.line = parent.source, parent.line
    return made


def tab_item(name, label, content):
    title = nodes.rubric(label, label, classes=["sd-tab-label"])
    title["sync_group"], title["sync_id"] = GROUP, name
    item = component("tab-item", content)
    item += [title, content]
    return item


def setup(app):
    app.add_transform(Tabs)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
