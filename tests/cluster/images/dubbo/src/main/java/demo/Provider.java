package demo;

import java.nio.file.Files;
import java.nio.file.Path;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/** A provider with everything as Dubbo has it by default. In: the registry's address. */
public final class Provider {
    private static final int PORT = 20880;

    private Provider() {}

    static final class Greeter implements Hello {
        private final String pod = System.getenv("HOSTNAME");

        @Override
        public String quick() {
            return pod;
        }

        @Override
        public String slow(int milliseconds) throws InterruptedException {
            Thread.sleep(milliseconds);
            return pod;
        }
    }

    public static void main(String[] args) {
        var service = new ServiceConfig<Hello>();
        service.setInterface(Hello.class);
        service.setRef(new Greeter());
        DubboBootstrap.getInstance()
                .application(new ApplicationConfig("provider"))
                .registry(new RegistryConfig("zookeeper://" + args[0]))
                .protocol(new ProtocolConfig("dubbo", PORT))
                .service(service)
                .start();
        // Runs beside Dubbo's own hook: tells when the JVM was told to stop, when its port closed.
        Runtime.getRuntime().addShutdownHook(new Thread(Provider::watchPort));
        Line.print(Line.now(), "event", "serving");
        DubboBootstrap.getInstance().await();
    }

    private static void watchPort() {
        Line.print(Line.now(), "event", "told");
        try {
            while (listens()) {
                Thread.sleep(10);
            }
            Line.print(Line.now(), "event", "closed");
        } catch (Exception error) {
            Line.print(Line.now(), "event", "unknown", "why", error);
        }
    }

    /** Read the kernel's table: to connect would be traffic. */
    private static boolean listens() throws java.io.IOException {
        var port = String.format(":%04X ", PORT);
        for (var table : new String[] {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
            for (var row : Files.readAllLines(Path.of(table))) {
                var columns = row.trim().split(" +");
                if ((columns[1] + " ").endsWith(port) && columns[3].equals("0A")) {
                    return true;
                }
            }
        }
        return false;
    }
}
