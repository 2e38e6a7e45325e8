"""A datagram to HOST PORT through the proxy PROXY_PORT with PySocks; prints what comes back."""

import socket
import sys

import socks

proxy_port, host, port, text = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
client = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
client.set_proxy(socks.SOCKS5, "127.0.0.1", proxy_port, rdns=True)
client.settimeout(30)
client.sendto(text.encode(), (host, port))
data, sender = client.recvfrom(65535)
print(data.decode(), sender[0], sender[1])
