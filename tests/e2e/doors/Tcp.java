import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;

/**
 * What port 7 of HOST says after this side has closed, what is raised for a port where nobody listens, both by SOCKS5 on
 * PROXY_PORT, and a page of HOST by Java's HTTP client through the same port as an HTTP proxy.
 */
public class Tcp {
    public static void main(String[] args) throws Exception {
        var proxy = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0]));
        String host = args[1];

        try (Socket socket = connect(proxy, host, 7)) {
            socket.getOutputStream().write("1234567".getBytes(StandardCharsets.UTF_8));
            socket.shutdownOutput();
            System.out.println(new String(socket.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
        }
        try {
            connect(proxy, host, 81).close();
        } catch (IOException error) {
            System.out.println(error.getMessage());
        }
        HttpClient client = HttpClient.newBuilder().proxy(ProxySelector.of(proxy)).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + host + "/")).build();
        System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }

    /** The name goes to the proxy as it is. */
    private static Socket connect(InetSocketAddress proxy, String host, int port) throws IOException {
        Socket socket = new Socket(new Proxy(Proxy.Type.SOCKS, proxy));
        socket.connect(InetSocketAddress.createUnresolved(host, port), 30_000);
        return socket;
    }
}
