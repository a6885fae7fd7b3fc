// No signal handler: what Node does by itself.
const pause = Number(process.env.SLEEP || 10) * 1000;
require('http').createServer((request, response) => {
  if (request.url === '/sleep') setTimeout(() => response.end('Sleep finished\n'), pause);
  else response.end('OK\n');
}).listen(8080);
