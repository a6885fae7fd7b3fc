package demo;

import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;

/**
 * A consumer that calls at a fixed rate, and no call twice: what fails is seen. Beside it, what the
 * registry has.
 *
 * In: the registry's address, quick calls a second, slow ones a second, their milliseconds. Out: a
 * line for each call, and one for each change of the registry, until it is killed.
 */
public final class Consumer {
    private static final String[] LEVELS = {"/services/provider", "/dubbo/demo.Hello/providers"};

    private Consumer() {}

    public static void main(String[] args) throws Exception {
        var reference = new ReferenceConfig<Hello>();
        reference.setInterface(Hello.class);
        reference.setCheck(false);
        reference.setRetries(0);
        reference.setTimeout(60_000);
        DubboBootstrap.getInstance()
                .application(new ApplicationConfig("consumer"))
                .registry(new RegistryConfig("zookeeper://" + args[0]))
                .reference(reference)
                .start();
        var hello = reference.get();
        var clock = Executors.newScheduledThreadPool(3);
        var slow = Integer.parseInt(args[3]);
        var registry = new ZooKeeper(args[0], 30_000, event -> {});
        for (var level : LEVELS) {
            watch(clock, registry, level);
        }
        load(clock, "quick", Double.parseDouble(args[1]), hello::quick);
        load(clock, "slow", Double.parseDouble(args[2]), () -> hello.slow(slow));
    }

    private static void load(
            ScheduledExecutorService clock, String kind, double rate, Callable<String> call) {
        var calls = Executors.newCachedThreadPool();
        Runnable one = () -> {
            double begin = Line.now();
            try {
                var pod = call.call();
                Line.print(begin, "call", kind, "took", Line.now() - begin, "by", pod);
            } catch (Exception error) {
                Line.print(begin, "call", kind, "took", Line.now() - begin, "failed", error);
            }
        };
        long period = (long) (1e6 / rate);
        clock.scheduleAtFixedRate(() -> calls.execute(one), 0, period, TimeUnit.MICROSECONDS);
    }

    private static void watch(ScheduledExecutorService clock, ZooKeeper registry, String level) {
        var last = new Object[] {null};
        clock.scheduleWithFixedDelay(() -> {
            try {
                var found = new TreeSet<>(registry.getChildren(level, false));
                if (!found.equals(last[0])) {
                    last[0] = found;
                    Line.print(Line.now(), "registry", level, "has", String.join(" ", found));
                }
            } catch (KeeperException.NoNodeException absent) {
                // Nobody has registered there yet.
            } catch (Exception error) {
                Line.print(Line.now(), "registry", level, "failed", error);
            }
        }, 0, 20, TimeUnit.MILLISECONDS);
    }
}
