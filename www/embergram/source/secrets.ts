/**
 * Addresses may carry secrets: credentials, and in the query signatures that let whoever has them in. They go to the
 * server and nowhere else.
 */

/** An address as messages and lists show it: without credentials, query and fragment. Takes what is no address as well. */
export function shown(address: string | URL): string {
  return String(address).replace(/[?#][^]*$/, "").replace(/^([a-z][a-z0-9+.-]*:)?\/\/[^/]*@/i, "$1//");
}

/** Parameters that sign an address: where the first is there, those of its kind go with it. */
const SIGNATURES: readonly (readonly [mark: RegExp, kind: RegExp])[] = [
  // Amazon S3 and what speaks its protocol, Google, Alibaba.
  [/^x-amz-signature$/, /^x-amz-/],
  [/^x-goog-signature$/, /^x-goog-/],
  [/^x-oss-signature$/, /^x-oss-/],
  // CloudFront, and the older forms of those.
  [/^signature$/, /^(signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid|ossaccesskeyid|security-token)$/],
  // Azure.
  [/^sig$/, /^(sig|s[vetrpsi]|sip|spr|srt|skoid|sktid|skt|sk[esv]|saoid|suoid|scid|sdd|ses)$/],
  // Whoever hands out tokens.
  [/^(access_|auth_)?token$/, /^((access_|auth_)?token|expires)$/],
];

/**
 * What tells one file from another: the address without credentials, fragment and signature, which are new each time it is
 * signed. Other parameters stay: they may choose the file.
 */
export function unsigned(address: URL): string {
  const url = new URL(address);
  url.username = url.password = url.hash = "";
  const names = [...url.searchParams.keys()];
  const signature = SIGNATURES.filter(([mark]) => names.some((name) => mark.test(name.toLowerCase())));
  const isPart = (name: string) => signature.some(([, kind]) => kind.test(name.toLowerCase()));
  // The others as they are written: to write them anew could change what they say.
  url.search = url.search.slice(1).split("&").filter((pair) => !isPart(nameOf(pair))).join("&");
  return url.href;
}

/** The name of a parameter as `searchParams` reads it. */
function nameOf(pair: string): string {
  return [...new URLSearchParams(pair).keys()][0] ?? "";
}
