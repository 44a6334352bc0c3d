// All tests: `npm test`. Sets up what is missing, then runs the native Rust tests, the plan on a Vulkan adapter (lavapipe
// where there is no GPU) with the real model among them.
import { model, run, vulkan } from "./setup.mjs";

vulkan();
const env = { ...process.env, EMBERGRAM_MODEL: await model() };
// One test binary after another: each opens the adapter, and two cores are all a small machine has.
run("cargo", ["test", "--locked", "-p", "embergram"], { env, stdio: "inherit" });
