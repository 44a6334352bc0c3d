// What scripts/build.mjs puts into `embergram/inline`: the worker's script, and the gzipped modules as base64.
declare module "embedded:worker" {
  const text: string;
  export default text;
}
declare module "embedded:engine_bg" {
  const base64: string;
  export default base64;
}
declare module "embedded:grammar" {
  const base64: string;
  export default base64;
}
declare module "embedded:kernels" {
  const base64: string;
  export default base64;
}
declare module "embedded:kernels_relaxed" {
  const base64: string;
  export default base64;
}
