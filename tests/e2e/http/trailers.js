// A service on a free port that says what it hears behind a body, and sends trailers of its own.
const http = require("http");

const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    response.writeHead(200, { Trailer: "X-Sum", "Transfer-Encoding": "chunked" });
    response.write(JSON.stringify(request.trailers));
    response.addTrailers({ "X-Sum": "42" });
    response.end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(`listens on ${server.address().port}`));
