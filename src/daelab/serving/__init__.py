"""The web page and its HTTP API; the same page as static files. No image maths of its own.

limits.py    what a request may cost
desk.py      the queue: what is worked on, what waits, what is refused
uploads.py   a request's body -> pictures' bytes, in memory
answers.py   what is asked of pictures, from the rooms above
zoo.py       the models to choose from
book.py      the ledger, curves and leaderboard
about.py     what the server takes; samples
shapes.py    the JSON documents
guard.py     host, origin, token; the headers of every answer
routes.py    every address
server.py    `serve`
export.py    `write_page`: the page without a server
site.py, static/   the page's own files
"""

from daelab.serving.book import LEADERBOARD, Book
from daelab.serving.export import ExportedPage, write_page
from daelab.serving.limits import Limits
from daelab.serving.routes import Settings, create_app
from daelab.serving.server import serve

__all__ = ["LEADERBOARD", "Book", "ExportedPage", "Limits", "Settings", "create_app", "serve", "write_page"]
