<?php
// Waits in a loop: PHP's sleep() comes back early at a signal.
header('Content-Type: text/plain');
if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/sleep') {
    $end = microtime(true) + (float) (getenv('SLEEP') ?: 10);
    while (microtime(true) < $end) {
        usleep(50000);
    }
    echo "Sleep finished\n";
} else {
    echo "OK\n";
}
