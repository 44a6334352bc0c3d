// What scripts/build.mjs puts into `embergram/inline`: the worker's script, and the gzipped module as base64.
declare module "embedded:worker" {
  const text: string;
  export default text;
}
declare module "embedded:wasm" {
  const base64: string;
  export default base64;
}
