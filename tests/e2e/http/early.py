"""Python's own web server on a free port: it refuses POST before it has read the body, and closes."""
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
print("listens on", server.server_port, flush=True)
server.serve_forever()
