"""A service that is ready at once and has nothing to do: `python stub_service.py OPS_PORT`."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Ready(BaseHTTPRequestHandler):
    """Answers every question with yes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
