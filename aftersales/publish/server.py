"""The page server: Voilà with plain addresses.

Voilà alone knows two ways: one notebook at `/`, or a folder with its own file list at `/` and every notebook at
`/voila/render/<page>.ipynb`. Neither gives a home page of ours and addresses worth a bookmark. Here `/` is
`index.ipynb`, `/root_cause?model=P1` is `root_cause.ipynb`, and Voilà's long addresses lead to the plain ones. The file
list and the contents interface are not served at all: a visitor sees pages, nothing else of the folder.

Started by `serving.voila_command` as `python -m aftersales.publish.server`; kept apart because importing Voilà takes
long and only the server needs it.
"""

from __future__ import annotations

from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError
from voila.app import Voila
from voila.tornado.contentshandler import VoilaContentsHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.treehandler import TornadoVoilaTreeHandler

PAGE_NAME = r"[a-z][a-z0-9_]*"
"""What a page may be called: plain lower-case words, as the file names of notebooks are."""


class PageHandler(TornadoVoilaHandler):
    """Serves `<page>.ipynb` of the notebook folder at `/<page>`, and `index.ipynb` at `/`."""

    async def get(self, path: str | None = None) -> None:
        notebook = f"{path or 'index'}.ipynb"
        if not await ensure_async(self.contents_manager.file_exists(notebook)):
            raise HTTPError(404)
        # reading it sets its cookie; without it the server refuses the request of a page that is left to end its kernel
        _ = self.xsrf_token
        await super().get(path=notebook)


class LongAddressHandler(JupyterHandler):
    """Leads `/<page>.ipynb?...` and Voilà's `/voila/render/<page>.ipynb?...` to `/<page>?...`."""

    async def get(self, page: str) -> None:
        plain = url_path_join(self.base_url, "" if page == "index" else page)
        self.redirect(plain + (f"?{self.request.query}" if self.request.query else ""))


class PageServer(Voila):
    """Voilà over a folder of pages, without its file list."""

    name = "voila"

    def init_handlers(self) -> list[Any]:
        replaced = (TornadoVoilaTreeHandler, TornadoVoilaHandler, VoilaContentsHandler)
        kept = [handler for handler in super().init_handlers() if handler[1] not in replaced]
        options = {
            "template_paths": self.template_paths,
            "config": self.config,
            "voila_configuration": self.voila_configuration,
        }
        long_address = url_path_join(self.server_url, rf"/(?:voila/render/)?({PAGE_NAME})\.ipynb")
        return [
            *kept,
            (long_address, LongAddressHandler),
            (url_path_join(self.server_url, rf"/({PAGE_NAME})/?"), PageHandler, options),
            (self.server_url, PageHandler, options),
        ]


if __name__ == "__main__":
    PageServer.launch_instance()
