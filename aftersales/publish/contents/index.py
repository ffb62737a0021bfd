"""Home: one card a page, with the question it answers."""

from __future__ import annotations

from aftersales.publish.scene import Payload, Scene
from aftersales.publish.sidecars import sidecars


def cards(scene: Scene) -> Payload:
    """The pages, in the order in which a newcomer reads them."""
    lang = f"?lang={scene.lang}" if scene.values.get("lang") else ""
    found = [
        {
            "title": sidecar.title[scene.lang],
            "text": sidecar.question[scene.lang],
            "href": f"{name}{lang}",
            "meta": sidecar.audience[scene.lang],
            "state": "ok",
        }
        for name, sidecar in sidecars(scene.workspace).items()
        if name != scene.page
    ]
    return {
        "kind": "cards",
        "id": "cards",
        "lang": scene.lang,
        "title": None,
        "lead": None,
        "message": None,
        "cards": found,
    }


SECTIONS = {"cards": cards}
