import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/**
 * {@code /} answers after 20 ms, {@code /slow} after four seconds: the JDK's own server, without a
 * shutdown hook.
 */
public class Main {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(8000), 128);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> {
            boolean slow = exchange.getRequestURI().getPath().equals("/slow");
            try {
                Thread.sleep(slow ? 4000 : 20);
            } catch (InterruptedException end) {
                Thread.currentThread().interrupt();
            }
            byte[] body = (slow ? "slow\n" : "fast\n").getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
