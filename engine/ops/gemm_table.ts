/**
 * Which tile a GEMM takes, as `deno task bench -- tune` measured it and wrote it here. By class of adapter, then by layout
 * and how B is stored: the first rule that holds for C's [M, N] wins. K doesn't matter for the choice.
 */
export const GEMM_TABLE = {
  hardware: {
    measured: "not measured: the largest tile that still gives some 200 workgroups",
    rules: {
      "NT": [
        { tile: "large", minWorkgroups: 200 },
        { tile: "medium", minWorkgroups: 200 },
        { tile: "small" },
      ],
      "NN": [
        { tile: "large", minWorkgroups: 200 },
        { tile: "medium", minWorkgroups: 200 },
        { tile: "small" },
      ],
      "TN": [
        { tile: "large", minWorkgroups: 200 },
        { tile: "medium", minWorkgroups: 200 },
        { tile: "small" },
      ],
      "NT bf16": [
        { tile: "large", minWorkgroups: 200 },
        { tile: "medium", minWorkgroups: 200 },
        { tile: "small" },
      ],
      "NN bf16": [
        { tile: "large", minWorkgroups: 200 },
        { tile: "medium", minWorkgroups: 200 },
        { tile: "small" },
      ],
    },
  },
  software: {
    measured: "llvmpipe (LLVM 15.0.6, 256 bits); llvmpipe, Mesa 22.3.6 (LLVM 15.0.6); 2026-11-24",
    rules: {
      "NT": [{ tile: "registerFew", maxRows: 8 }, { tile: "register" }],
      "NN": [{ tile: "registerFew", maxRows: 8 }, { tile: "register" }],
      "TN": [{ tile: "register" }],
      "NT bf16": [{ tile: "registerFew", maxRows: 8 }, { tile: "register" }],
      "NN bf16": [{ tile: "registerFew", maxRows: 8 }, { tile: "register" }],
    },
  },
  softwareSubgroups: {
    measured: "llvmpipe (LLVM 15.0.6, 256 bits); llvmpipe, Mesa 22.3.6 (LLVM 15.0.6); 2026-11-24",
    rules: {
      "NT": [{ tile: "shuffleFew", maxRows: 8 }, { tile: "shuffle" }],
      "NN": [{ tile: "shuffleFew", maxRows: 16 }, { tile: "shuffle" }],
      "TN": [{ tile: "shuffle" }],
      "NT bf16": [{ tile: "shuffleFew", maxRows: 16 }, { tile: "shuffle" }],
      "NN bf16": [{ tile: "shuffleFew", maxRows: 16 }, { tile: "shuffle" }],
    },
  },
} as const;
