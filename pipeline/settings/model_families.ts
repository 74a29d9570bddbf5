/** Families and sizes as OML 1.0's `model_family` and `model_size` name them, and the models they mean. */
export const MODEL_FAMILIES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Eleuther: {
    "70m": "EleutherAI/pythia-70m-deduped",
    "160m": "EleutherAI/pythia-160m-deduped",
    "410m": "EleutherAI/pythia-410m-deduped",
    "1b": "EleutherAI/pythia-1b-deduped",
    "1.4b": "EleutherAI/pythia-1.4b-deduped",
    "2.8b": "EleutherAI/pythia-2.8b-deduped",
    "6.9b": "EleutherAI/pythia-6.9b-deduped",
    "12b": "EleutherAI/pythia-12b-deduped",
  },
  // OML 1.0 tries Llama 3.2, then 3.1: no size is in both.
  llama: {
    "1B": "meta-llama/Llama-3.2-1B",
    "1B-Instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "3B": "meta-llama/Llama-3.2-3B",
    "3B-Instruct": "meta-llama/Llama-3.2-3B-Instruct",
    "8B": "meta-llama/Meta-Llama-3.1-8B",
    "8B-Instruct": "meta-llama/Meta-Llama-3.1-8B-Instruct",
    "70B": "meta-llama/Meta-Llama-3.1-70B",
    "70B-Instruct": "meta-llama/Meta-Llama-3.1-70B-Instruct",
    "405B": "meta-llama/Meta-Llama-3.1-405B",
    "405B-Instruct": "meta-llama/Meta-Llama-3.1-405B-Instruct",
  },
  mistral: {
    "7B": "mistralai/Mistral-7B-v0.3",
    "7B-Instruct": "mistralai/Mistral-7B-Instruct-v0.3",
  },
  // Phi-3-small has an architecture of its own (phi3small).
  microsoft: {
    "mini": "microsoft/Phi-3-mini-4k-instruct",
    "mini-4k": "microsoft/Phi-3-mini-4k-instruct",
    "mini-128k": "microsoft/Phi-3-mini-128k-instruct",
    "medium": "microsoft/Phi-3-medium-4k-instruct",
    "medium-4k": "microsoft/Phi-3-medium-4k-instruct",
    "medium-128k": "microsoft/Phi-3-medium-128k-instruct",
  },
  gemma: {
    "2b": "google/gemma-2-2b",
    "2b-it": "google/gemma-2-2b-it",
    "9b": "google/gemma-2-9b",
    "9b-it": "google/gemma-2-9b-it",
    "27b": "google/gemma-2-27b",
    "27b-it": "google/gemma-2-27b-it",
  },
};
