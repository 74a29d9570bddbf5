import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { leafHash, merklePath, merkleRoot, rootOfPath } from "../../../pipeline/fingerprints/merkle.ts";

/** Leaves and roots of the tests of Google's certificate-transparency. */
const LEAVES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
];
const ROOTS = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const hashes = LEAVES.map((leaf) => leafHash(Uint8Array.fromHex(leaf)));

Deno.test("Merkle tree: roots as RFC 6962 has them", () => {
  for (const [count, root] of ROOTS.entries()) assert.equal(merkleRoot(hashes.slice(0, count)).toHex(), root);
  // Leaves and nodes can't be taken for each other.
  const content = new Uint8Array([...hashes[0], ...hashes[1]]);
  assert.notEqual(leafHash(content).toHex(), ROOTS[2]);
  assert.notEqual(createHash("sha256").update(content).digest("hex"), ROOTS[2]);
  assert.equal(leafHash(content.subarray(0, 40), content.subarray(40)).toHex(), leafHash(content).toHex());
});

Deno.test("Merkle tree: a leaf's path gives the root, at its own place only", () => {
  const many = Array.from({ length: 23 }, (_, i) => leafHash(Uint8Array.of(i)));
  const foreign = leafHash(Uint8Array.of(99));
  for (let count = 1; count <= many.length; count++) {
    const leaves = many.slice(0, count);
    const root = merkleRoot(leaves).toHex();
    for (let index = 0; index < count; index++) {
      const path = merklePath(leaves, index);
      const gives = (leaf: Uint8Array, at: number, of = count, beside = path) =>
        rootOfPath(leaf, at, of, beside)?.toHex() === root;
      assert.ok(gives(leaves[index], index));
      for (let at = 0; at < count; at++) {
        if (at !== index) assert.ok(!gives(leaves[index], at), `${index} at ${at}`);
      }
      assert.ok(!gives(many[(index + 1) % many.length], index));
      if (path.length > 0) assert.equal(rootOfPath(leaves[index], index, count, path.slice(1)), undefined);
      assert.equal(rootOfPath(leaves[index], index, count, [...path, many[0]]), undefined);
      path.forEach((_, i) => assert.ok(!gives(leaves[index], index, count, path.with(i, foreign))));
    }
  }
});
