/**
 * Writes the reference pages that are made from the source: `deno task docs`.
 * @module
 */
import { flagsPage } from "./flags_page.ts";

const page = new URL("../../docs/flags.md", import.meta.url);
if (import.meta.main) await Deno.writeTextFile(page, flagsPage());
