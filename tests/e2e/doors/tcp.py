"""A page of HOST through the proxy PROXY_PORT with PySocks, then what it raises for a port where nobody listens."""

import http.client
import sys

import socks

proxy_port, host = int(sys.argv[1]), sys.argv[2]


def connect(port):
    return socks.create_connection(
        (host, port), 30, None, socks.SOCKS5, "127.0.0.1", proxy_port, proxy_rdns=True
    )


connection = http.client.HTTPConnection(host)
connection.sock = connect(80)
connection.request("GET", "/")
print(connection.getresponse().read().decode())
try:
    connect(81)
except socks.ProxyError as error:
    print(error)
