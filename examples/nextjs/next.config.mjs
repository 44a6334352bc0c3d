/** With these headers the page is cross-origin isolated, and the engine has threads where there is no GPU. */
const isolated = [
  { key: "Cross-Origin-Opener-Policy", value: "same-origin" },
  { key: "Cross-Origin-Embedder-Policy", value: "require-corp" },
];

export default { headers: async () => [{ source: "/:path*", headers: isolated }] };
