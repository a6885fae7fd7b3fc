<?php
// `/` answers after 20 ms, `/slow` after four seconds. Not by sleep(): a signal ends that early.
header('Content-Type: text/plain');
$slow = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/slow';
for ($end = microtime(true) + ($slow ? 4 : 0.02); microtime(true) < $end;) {
    usleep(5000);
}
echo $slow ? "slow\n" : "fast\n";
