const SEND_TOKEN = "pass a fetch that sends an Authorization header with a token that may read it";

/** What to do about a status; `code` is the hub's own word for what is wrong, its `X-Error-Code`. */
export function advice(status: number, code: string | null): string {
  if (code === "GatedRepo" && status === 403) return "The repository is gated, and the token's account has no access: ask for it on the repository's page.";
  if (code === "GatedRepo") return `The repository is gated: accept its terms on its page, and ${SEND_TOKEN}.`;
  if (code === "RepoNotFound" && status === 401) return `There is no such repository, or it is private: check owner and repository; for a private one ${SEND_TOKEN}.`;
  if (code === "RepoNotFound") return "There is no such repository: check owner and repository; a private one is hidden from a token that may not read it.";
  if (code === "RevisionNotFound") return "The repository has no such revision: check the branch, tag or commit after the @.";
  if (code === "EntryNotFound") return "The repository has no such file in this revision: check its path, or name the model by its tag, as in hf:owner/repo:Q4_K_M.";
  if (status === 401 || status === 403) return "The file needs permission: pass a fetch that sends an Authorization header, check the token that it sends, or use a public file.";
  if (status === 404 || status === 410) return "Check the address, and for an hf: name the owner, repository, file name and revision.";
  if (status === 429) return "The server asks for fewer requests: load again later.";
  return status >= 500 ? "The server is in trouble: load again later." : "Check that a plain GET of this address, in this page, gives the file.";
}
