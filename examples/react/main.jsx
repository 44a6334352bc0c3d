import { createRoot } from "react-dom/client";
import { Chat } from "./chat.jsx";

// `?model=` names another model: an address, or one on Hugging Face.
const model = new URLSearchParams(location.search).get("model") ?? "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M";
createRoot(document.getElementById("root")).render(<Chat model={model} />);
