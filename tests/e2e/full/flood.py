# Holds as many connections with a SOCKS5 proxy as it gets: `silent` says nothing and comes back whenever it was thrown out, `idle` gives
# the credentials, connects, and then says nothing, `echoed` needs no proxy and is answered once. Prints a line once it has what it gets, and stays until its input ends.
import select, socket, sys

how, host, port, count, user, password, name, to = sys.argv[1:]
place, count = (host, int(port)), int(count)


def silent():
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(place)
    return s


def idle():
    s = socket.create_connection(place, 3)
    s.sendall(b"\5\1\2")
    if s.recv(2) != b"\5\2":
        return None
    s.sendall(b"\1" + bytes([len(user)]) + user.encode() + bytes([len(password)]) + password.encode())
    if s.recv(2) != b"\1\0":
        return None
    s.sendall(b"\5\1\0\3" + bytes([len(name)]) + name.encode() + int(to).to_bytes(2, "big"))
    reply = s.recv(10)
    return s if reply[:2] == b"\5\0" else None


def echoed():
    s = socket.create_connection(place, 3)
    s.sendall(b"x")
    return s if s.recv(1) == b"x" else None


held = []
if how != "silent":
    for _ in range(count):
        try:
            s = idle() if how == "idle" else echoed()
        except OSError:
            s = None
        if s is None:
            break
        held.append(s)
    print(len(held), flush=True)
    sys.stdin.read()
else:
    held = [silent() for _ in range(count)]
    told = False
    while True:
        ready = select.select([sys.stdin] + held, [], [], 0.05)[0]
        if sys.stdin in ready:
            break
        for s in ready:
            held.remove(s)
            s.close()
            held.append(silent())
        if not told:
            told = True
            print(count, flush=True)
