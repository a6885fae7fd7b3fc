package demo;

import java.util.Locale;

/** A line of JSON on standard output, each with the time: what the test reads. */
final class Line {
    private Line() {}

    static double now() {
        return System.currentTimeMillis() / 1000.0;
    }

    /** Fields by turns: name, value. A value is a string or a number. */
    static synchronized void print(double at, Object... fields) {
        var line = new StringBuilder(String.format(Locale.ROOT, "{\"at\": %.3f", at));
        for (int i = 0; i < fields.length; i += 2) {
            line.append(", \"").append(fields[i]).append("\": ");
            if (fields[i + 1] instanceof Number) {
                line.append(fields[i + 1]);
            } else {
                var text = String.valueOf(fields[i + 1]).replaceAll("[^ -~]", " ");
                line.append('"').append(text.replace("\\", "/").replace('"', '\'')).append('"');
            }
        }
        System.out.println(line.append('}'));
        System.out.flush();
    }
}
