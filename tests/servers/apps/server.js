// `/` answers after 20 ms, `/slow` after four seconds. With GRACEFUL=1 it closes on SIGTERM, as
// Node's documentation advises.
const server = require("http").createServer((request, response) => {
  const slow = request.url === "/slow";
  setTimeout(() => response.end(slow ? "slow\n" : "fast\n"), slow ? 4000 : 20);
});
server.listen(8000);
if (process.env.GRACEFUL) process.on("SIGTERM", () => server.close());
