// Removes the device of this job.
"use strict";

const { spawnSync } = require("node:child_process");
const { existsSync, rmSync } = require("node:fs");

const { STATE_binary: binary, STATE_state: state } = process.env;
if (binary && state && existsSync(state)) {
  const done = spawnSync(binary, ["logout", "--state-dir", state], { stdio: "inherit" });
  if (done.status === 0) rmSync(state, { recursive: true, force: true });
}
