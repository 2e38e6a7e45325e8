// Starts a device for this job in the background, waits until it can be reached, and tells the following steps where its proxy is.
"use strict";

const { execFileSync } = require("node:child_process");
const { appendFileSync } = require("node:fs");
const path = require("node:path");

// The runner passes inputs as variables.
const input = (name) => process.env[`INPUT_${name.toUpperCase()}`] || "";

const state = path.join(process.env.RUNNER_TEMP, `overlan-${process.pid}`);
const binary = input("binary") || "overlan";

// A list becomes `key=value` lines, which is how the runner hears of outputs, state and variables.
const tell = (file, values) => {
  const lines = Object.entries(values).map(([key, value]) => `${key}=${value}\n`);
  appendFileSync(process.env[file], lines.join(""));
};

const overlan = (args, env = {}) =>
  execFileSync(binary, args, {
    encoding: "utf8",
    env: { ...process.env, ...env, OVERLAN_STATE_DIR: state },
    stdio: ["ignore", "pipe", "inherit"],
  });

try {
  // Before anything can fail: what was begun is undone in any case.
  tell("GITHUB_STATE", { binary, state });
  const up = ["up", "--background", "--socks", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--timeout", input("timeout") || "60"];
  // A key is for jobs that may not have a token of their own.
  if (!input("authkey")) up.push("--oidc");
  if (input("audience")) up.push("--oidc-audience", input("audience"));
  if (input("hostname")) up.push("--hostname", input("hostname"));
  if (input("network")) up.push("--network", input("network"));
  up.push(...input("args").split(/\s+/).filter(Boolean));
  const ready = overlan(up, { OVERLAN_SERVER: input("server"), OVERLAN_AUTH_KEY: input("authkey") });
  console.log(ready.trim());
  for (const peer of input("ping").split(",").map((name) => name.trim()).filter(Boolean)) {
    overlan(["wait", "--for", `peer:${peer}`, "--timeout", input("timeout") || "60"]);
    console.log(overlan(["ping", "--count", "30", "--until-answer", peer]).trim());
  }
  const { socks } = JSON.parse(overlan(["status", "--json"]));
  tell("GITHUB_OUTPUT", { socks });
  tell("GITHUB_ENV", { OVERLAN_STATE_DIR: state });
  if (input("proxy-env") === "true") {
    tell("GITHUB_ENV", {
      ALL_PROXY: `socks5h://${socks}`,
      HTTP_PROXY: `http://${socks}`,
      HTTPS_PROXY: `http://${socks}`,
      NO_PROXY: "localhost,127.0.0.1,::1",
    });
  }
} catch (error) {
  console.log(`::error::overlan: ${error.message}`);
  process.exit(1);
}
