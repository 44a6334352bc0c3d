import { Chat } from "./chat.jsx";

const MODEL = "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M";

/** `?model=` takes another address. */
export default async function Page({ searchParams }) {
  const { model = MODEL } = await searchParams;
  return <Chat model={model} />;
}
