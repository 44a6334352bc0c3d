"use client";

import { useRef, useState } from "react";
import { useLlm } from "./use-llm.js";

export function Chat({ model }) {
  const { llm, status } = useLlm(model);
  const [messages, setMessages] = useState([]);
  const [draft, setDraft] = useState("");
  const [failed, setFailed] = useState("");
  const [running, setRunning] = useState(false);
  const abort = useRef(null);

  async function send(event) {
    event.preventDefault();
    const conversation = [...messages, { role: "user", content: draft }];
    abort.current = new AbortController();
    setDraft("");
    setFailed("");
    setRunning(true);
    let content = "";
    setMessages([...conversation, { role: "assistant", content }]);
    try {
      for await (const { text } of llm.chatStream(conversation, { max_tokens: 300 }, { signal: abort.current.signal })) {
        content += text;
        setMessages([...conversation, { role: "assistant", content }]);
      }
    } catch (error) {
      // What was written before a stop stays.
      if (error.name !== "AbortError") setFailed(`${error.code}: ${error.message}`);
    } finally {
      setRunning(false);
    }
  }

  return (
    <>
      <h1>A chat in this page</h1>
      <p role="status">{status}</p>
      <ol>
        {messages.map(({ role, content }, i) => (
          <li key={i} data-role={role}>
            <b>{role === "user" ? "You" : "Model"}:</b> <span>{content}</span>
          </li>
        ))}
      </ol>
      {failed && <p role="alert">{failed}</p>}
      <form onSubmit={send}>
        <label>
          Message <textarea rows={3} value={draft} onChange={(event) => setDraft(event.target.value)} />
        </label>
        <button disabled={!llm || running || draft === ""}>Send</button>
        <button type="button" disabled={!running} onClick={() => abort.current.abort()}>Stop</button>
      </form>
    </>
  );
}
