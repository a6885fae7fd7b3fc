package demo;

/** What the provider offers. Each answer is the name of the Pod that gave it. */
public interface Hello {
    String quick();

    String slow(int milliseconds) throws InterruptedException;
}
