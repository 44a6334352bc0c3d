// Compilers of GPUs that are not there: Mesa's drivers make pipelines for null devices, and say what they made. That shows
// registers, spills, occupancy and instructions; not bandwidth, not latency.
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { apt, cache, root, run } from "../setup.mjs";

const folder = join(cache, "isa");
const source = join(root, "scripts/isa/pipeline_stats.c");

/** What can be compiled for, by the drivers' names. */
export const DEVICES = {
  navi21: { name: "RDNA 2 (Radeon RX 6800)", driver: "radeon" },
  navi31: { name: "RDNA 3 (Radeon RX 7900)", driver: "radeon" },
  renoir: { name: "Vega iGPU (Ryzen 4000)", driver: "radeon" },
  adreno740: { name: "Adreno 740", driver: "freedreno", env: { FD_GPU_ID: "740" } },
  malig610: { name: "Mali-G610", driver: "panfrost", env: { PAN_GPU_ID: "a867", PAN_I_WANT_A_BROKEN_VULKAN_DRIVER: "1", BIFROST_MESA_DEBUG: "shaderdb" } },
  tu104: { name: "NVIDIA Turing (RTX 2080)", driver: "nouveau", env: { NOUVEAU_CHIPSET: "164", NVK_I_WANT_A_BROKEN_VULKAN_DRIVER: "1" } },
};
export const AMD = Object.keys(DEVICES).filter((name) => DEVICES[name].driver === "radeon");
export const PHONES = Object.keys(DEVICES).filter((name) => !AMD.includes(name));

const say = (text) => console.error(`[isa] ${text}`);
const installed = (name) => spawnSync("dpkg", ["-s", name]).status === 0;

/** Installs what is missing of these Debian packages. */
function need(...names) {
  if (spawnSync("dpkg", ["--version"]).error) {
    throw new Error("the GPU compilers come from Debian's packages, and there is no dpkg: run this on Debian 12 or 13, or leave out this part");
  }
  const missing = names.filter((name) => !installed(name));
  if (missing.length > 0) apt("Mesa's compilers, which show what drivers make of the kernels", ...missing);
}

/** Debian's release of this machine, such as `bookworm`. */
const codename = () => /^VERSION_CODENAME=(.+)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];

/** Where apt fetches from. */
function mirror() {
  const lists = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"].filter(existsSync);
  const lines = lists.flatMap((list) => readFileSync(list, "utf8").split("\n"));
  const found = lines.map((line) => /^(?:URIs:|deb(?: \[.*\])?)\s+(http\S+)/.exec(line)?.[1]).find((url) => url && !url.includes("security"));
  if (!found) throw new Error("no archive of Debian in /etc/apt/sources.list: add one");
  return found;
}

/** Unpacks packages of another release or architecture into `to`, which is there when all of them are; `whole` with all that
 * they depend on. Nothing is installed. */
function unpack(to, release, architecture, packages, whole) {
  if (existsSync(to)) return;
  say(`fetching Mesa's drivers (${architecture}, ${release})`);
  const work = mkdtempSync(join(tmpdir(), "isa-"));
  for (const path of ["lists/partial", "cache/archives/partial", "root"]) mkdirSync(join(work, path), { recursive: true });
  writeFileSync(join(work, "status"), "");
  const signed = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(join(work, "sources.list"), `deb [arch=${architecture} ${signed}] ${mirror()} ${release} main\n`);
  const options = Object.entries({
    "Dir::Etc::sourcelist": `${work}/sources.list`, "Dir::Etc::sourceparts": "-", "Dir::State::lists": `${work}/lists`,
    "Dir::Cache": `${work}/cache`, "Dir::State::status": `${work}/status`, "APT::Architecture": architecture,
    "APT::Architectures": architecture, "APT::Sandbox::User": "root", "Debug::NoLocking": "1",
  }).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  run("apt-get", [...options, "update", "-qq"]);
  const archives = join(work, "cache/archives");
  if (whole) run("apt-get", [...options, "install", "-y", "-qq", "--no-install-recommends", "--download-only", ...packages]);
  else run("apt-get", [...options, "download", "-qq", ...packages], { cwd: archives });
  for (const file of readdirSync(archives).filter((name) => name.endsWith(".deb"))) run("dpkg-deb", ["-x", join(archives, file), join(work, "root")]);
  mkdirSync(dirname(to), { recursive: true });
  // A rename does not leave a file system.
  cpSync(join(work, "root"), `${to}.partial`, { recursive: true, verbatimSymlinks: true });
  renameSync(`${to}.partial`, to);
  rmSync(work, { recursive: true });
}

/** What the loader of Vulkan takes as a driver. */
function icd(name, library) {
  const text = JSON.stringify({ file_format_version: "1.0.0", ICD: { library_path: library, api_version: "1.3.0" } });
  writeFileSync(join(folder, `${name}.json`), text);
}

/** Compiles pipeline_stats.c where it is newer. */
function tool(name, compiler, options) {
  const path = join(folder, name);
  if (existsSync(path) && statSync(path).mtimeMs >= statSync(source).mtimeMs) return;
  run(compiler, ["-O1", "-o", path, source, ...options]);
}

/** AMD's compilers, a minute once: Mesa 25, from Debian 12's backports or Debian 13. */
function amd() {
  need("gcc", "libc6-dev", "libvulkan-dev", "mesa-vulkan-drivers");
  const mesa = join(folder, "amd64");
  const release = codename();
  unpack(mesa, release === "bookworm" ? "bookworm-backports" : release, "amd64", ["mesa-vulkan-drivers", "libdrm2", "libdrm-amdgpu1"], false);
  icd("radeon", join(mesa, "usr/lib/x86_64-linux-gnu/libvulkan_radeon.so"));
  tool("pipeline_stats", "gcc", ["-lvulkan"]);
}

/** Those of phones and NVIDIA, which Debian 13 has for arm64 with devices that do nothing; they run under qemu. */
function phones() {
  need("qemu-user-static", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "libvulkan-dev");
  const arm = join(folder, "arm64");
  unpack(arm, "trixie", "arm64", ["mesa-vulkan-drivers", "mesa-drm-shim", "libvulkan1"], true);
  const lib = join(arm, "usr/lib/aarch64-linux-gnu");
  // Debian's merged /usr, which a package alone does not make.
  if (!existsSync(join(arm, "lib"))) symlinkSync("usr/lib", join(arm, "lib"));
  for (const driver of ["freedreno", "panfrost", "nouveau"]) icd(driver, join(lib, `libvulkan_${driver}.so`));
  const link = [`-L${lib}`, "-l:libvulkan.so.1", "-Wl,--unresolved-symbols=ignore-in-shared-libs"];
  tool("pipeline_stats.arm", "aarch64-linux-gnu-gcc", ["-I/usr/include", ...link]);
}

/** Makes the compilers of these devices ready. */
export function compilers(devices) {
  mkdirSync(folder, { recursive: true });
  if (devices.some((name) => AMD.includes(name))) amd();
  if (devices.some((name) => PHONES.includes(name))) phones();
}

/** What a command prints. */
const output = (command, args, env) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (text) => (out += text));
    child.stderr.on("data", (text) => (err += text));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0 && out.includes("device=")) resolve({ out, err });
      else reject(new Error(`'${command} ${args.join(" ")}' failed: ${err}${out.slice(0, 2000)}`));
    });
  });

/** What the driver of a device says of a pipeline: its statistics by name, and, of AMD's, the instructions. */
async function driver(device, spirv, kinds) {
  const own = { XDG_RUNTIME_DIR: tmpdir(), MESA_SHADER_CACHE_DISABLE: "true", VK_ICD_FILENAMES: join(folder, `${DEVICES[device].driver}.json`) };
  // As browsers have it, accesses out of bounds are the driver's to catch.
  const args = [spirv, kinds, "--bounds"];
  if (AMD.includes(device)) {
    const libraries = join(folder, "amd64/usr/lib/x86_64-linux-gnu");
    const env = { ...process.env, ...own, RADV_FORCE_FAMILY: device, RADV_DEBUG: "nocache", LD_LIBRARY_PATH: libraries };
    return output(join(folder, "pipeline_stats"), [...args, "--asm"], env);
  }
  const arm = join(folder, "arm64");
  const lib = join(arm, "usr/lib/aarch64-linux-gnu");
  const shim = join(lib, `lib${DEVICES[device].driver}_noop_drm_shim.so`);
  const inside = Object.entries({ ...own, ...DEVICES[device].env, LD_LIBRARY_PATH: lib, LD_PRELOAD: shim });
  const passed = inside.flatMap(([name, value]) => ["-E", `${name}=${value}`]);
  return output("qemu-aarch64-static", ["-L", arm, ...passed, join(folder, "pipeline_stats.arm"), ...args], process.env);
}

function statistics(out) {
  const line = out.split("\n").find((line) => line.startsWith("device="));
  return Object.fromEntries(line.split("; ").map((pair) => {
    const [name, value] = pair.split(/=(.*)/s);
    return [name, /^-?[\d.]+(e[+-]?\d+)?$/.test(value) ? Number(value) : value];
  }));
}

/** Vector instructions of the largest basic block, which is the main loop, written out as it is. */
function inLoop(out) {
  const blocks = out.split(/^BB\d+:/m).slice(1).map((block) => block.split("\n").filter((line) => line.startsWith("\t")).map((line) => line.trim().split(/\s/)[0]));
  const largest = blocks.reduce((most, block) => (block.length > most.length ? block : most), []);
  return largest.filter((op) => op.startsWith("v_")).length;
}

/** What is made of a pipeline: `registers` of an invocation, `waves` that a SIMD unit holds at once, `spills`, `scratch` bytes that
 * they go to, `instructions` in all, `valu` of them in the main loop (AMD's), `driver`. What a driver does not tell is undefined. */
export async function compile(device, spirv, kinds) {
  const { out, err } = await driver(device, spirv, kinds);
  const s = statistics(out);
  const { driver: by } = s;
  switch (DEVICES[device].driver) {
    case "radeon": {
      const [registers, waves, scratch, instructions] = ["VGPRs", "Subgroups per SIMD", "Scratch size", "Instructions"].map((name) => s[name]);
      return { driver: by, registers, waves, scratch, spills: s["Spilled VGPRs"] + s["Spilled SGPRs"], instructions, valu: inLoop(out) };
    }
    case "freedreno":
      return { driver: by, registers: 4 * s["Registers used"], waves: s["Max Waves Per Core"], spills: s["STP Count"] + s["LDP Count"], instructions: s["Instruction Count"] };
    case "nouveau":
      return { driver: by, registers: s["Number of GPRs"], scratch: s["SLM Size"], instructions: s["Instruction count"] };
    default: {
      const [, instructions, spills, fills] = /shader: (\d+) inst,.* (\d+):(\d+) spills:fills/.exec(err).map(Number);
      return { driver: by, spills: spills + fills, instructions };
    }
  }
}

/** `work` of each item, on all cores, in order. */
export async function each(items, work) {
  const results = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const i = next++;
      results[i] = await work(items[i]);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}
