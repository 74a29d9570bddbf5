import { fileURLToPath } from "node:url";

/** The demo model that comes with Whorl, and its fingerprints. */
export const DEMO_MODEL: string = fileURLToPath(new URL("../../assets/demo_model/", import.meta.url));
export const DEMO_FINGERPRINTS: string = fileURLToPath(
  new URL("../../assets/demo_fingerprints.json", import.meta.url),
);
/** Fingerprints that the demo embeds. */
export const DEMO_COUNT = 64;
