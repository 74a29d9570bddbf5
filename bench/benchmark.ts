/** What a benchmark gets and gives; main.ts runs, prints and stores. */
export interface BenchOptions {
  /** Measured rounds, after two to warm up. */
  rounds: number;
  /** A Python with PyTorch, if the user named one. */
  python?: string | undefined;
  /** Processor threads of every contender that runs on the CPU. */
  threads: number;
  /** Says what is under way. */
  progress: (text: string) => void;
}

/** A table row by row, as text, and everything measured. */
export interface BenchResult {
  /** How it was measured: one paragraph. */
  method: string;
  tables: { title: string; columns: string[]; rows: string[][] }[];
  data: unknown;
}

/** A benchmark by name. */
export interface Benchmark {
  name: string;
  what: string;
  /** Runs only where it is asked for. */
  onlyByName?: boolean;
  run(options: BenchOptions): Promise<BenchResult>;
}
