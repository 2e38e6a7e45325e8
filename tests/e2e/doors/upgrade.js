// A page by absolute URL, one through CONNECT, and an upgrade, all with node's own http module through the proxy at PORT.
const http = require("http");

const [port, host] = [Number(process.argv[2]), process.argv[3]];
const proxy = { host: "127.0.0.1", port };

function page(options) {
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      let text = "";
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve(`${response.statusCode} ${text.trim()}`));
    });
    request.on("error", reject).end();
  });
}

function tunnel() {
  return new Promise((resolve, reject) => {
    const request = http.request({ ...proxy, method: "CONNECT", path: `${host}:80` });
    request.on("connect", (response, socket) => resolve(socket));
    request.on("error", reject).end();
  });
}

function upgrade() {
  return new Promise((resolve, reject) => {
    const headers = { Host: host, Connection: "Upgrade", Upgrade: "shout" };
    const request = http.request({ ...proxy, path: `http://${host}:90/`, headers });
    request.on("response", (response) => reject(new Error(`not upgraded: ${response.statusCode}`)));
    request.on("upgrade", (response, socket, head) => {
      let text = head.toString();
      socket.on("data", (part) => (text += part));
      socket.on("end", () => resolve(`${response.statusCode} ${text}`));
      socket.end("hello");
    });
    request.on("error", reject).end();
  });
}

async function main() {
  console.log(await page({ ...proxy, path: `http://${host}/`, headers: { Host: host } }));
  const socket = await tunnel();
  console.log(await page({ createConnection: () => socket, path: "/", headers: { Host: host } }));
  console.log(await upgrade());
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
