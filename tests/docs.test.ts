import assert from "node:assert/strict";
import project from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);
/** Generated; tests/tools/ holds it to be there. */
const GENERATED = ["docs/flags.md"];

function* pages(): Generator<string> {
  for (const { name } of Deno.readDirSync(ROOT)) if (name.endsWith(".md")) yield name;
  for (const { name } of Deno.readDirSync(new URL("docs/", ROOT))) yield `docs/${name}`;
}

/** Anchors of a page's headings, as GitHub makes them. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );
}

Deno.test("links of the documents lead to files and headings that are there", () => {
  let count = 0;
  for (const page of pages()) {
    const text = Deno.readTextFileSync(new URL(page, ROOT));
    for (const [, link] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link)) continue;
      const target = new URL(link, new URL(page, ROOT));
      const hash = target.hash.slice(1);
      target.hash = "";
      count++;
      if (GENERATED.some((path) => target.href === new URL(path, ROOT).href)) continue;
      assert.ok(exists(target), `${page}: ${link} leads nowhere`);
      if (hash) {
        assert.ok(anchors(Deno.readTextFileSync(target)).includes(hash), `${page}: no heading ${link}`);
      }
    }
  }
  assert.ok(count > 20, `${count} links found`);
});

function exists(url: URL): boolean {
  try {
    Deno.statSync(url);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("the lint of documentation covers every entry point, and docs/api.md names each", async () => {
  const entries = Object.values(project.exports).map((path) => path.replace("./", ""));
  assert.equal(project.tasks["doc-lint"], `deno doc --lint ${entries.join(" ")}`);
  const page = await Deno.readTextFile(new URL("docs/api.md", ROOT));
  for (const path of Object.keys(project.exports)) {
    const name = project.name + path.slice(1);
    assert.ok(page.includes(`\`${name}\``), `docs/api.md doesn't name ${name}`);
  }
});
