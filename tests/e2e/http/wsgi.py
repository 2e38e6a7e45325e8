"""A WSGI service on a free port that says by which variables it knows who asks."""
from wsgiref.simple_server import WSGIRequestHandler, make_server


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = [name for name in environ if "OVERLAN" in name or "FORWARDED" in name or name == "HTTP_PROXY"]
    return [f"{name}={environ[name]}\n".encode() for name in sorted(told)]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
print("listens on", server.server_port, flush=True)
server.serve_forever()
