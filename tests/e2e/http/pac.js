// Runs the script of the standard input as a browser would, without a network, and says where each host leads.
const vm = require("vm");

const script = require("fs").readFileSync(0, "utf8");
const browser = vm.createContext({});
vm.runInContext(script, browser);
for (const host of process.argv.slice(2)) {
  const url = `http://${host}/`;
  console.log(host, vm.runInContext(`FindProxyForURL(${JSON.stringify(url)}, ${JSON.stringify(host)})`, browser));
}
