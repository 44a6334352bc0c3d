/**
 * Until `end`, devices are asked for with subgroups where their adapter has them. `end` tells whether one was.
 * wgpu calls `requestDevice` before it waits for anything, so no other caller's request falls between.
 */
export function askForSubgroups() {
  const { prototype } = globalThis.GPUAdapter;
  const own = prototype.requestDevice;
  let asked = false;
  prototype.requestDevice = function (descriptor) {
    asked = this.features.has("subgroups");
    if (asked) descriptor.requiredFeatures = [...(descriptor.requiredFeatures ?? []), "subgroups"];
    return own.call(this, descriptor);
  };
  return {
    end() {
      prototype.requestDevice = own;
      return asked;
    },
  };
}
