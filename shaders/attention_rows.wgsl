// An invocation's query row of `tile`, its token, and the keys that it walks. SHARE: software adapters load lane by lane, so
// each lane loads an eighth of a key or value that all need and passes it on by shuffles; lanes without a row of their own
// stay for that, and all walk the keys of the whole tile.
//#if SHARE
let row = tile.x + min(lane, tile.y - 1u);
let token = query_tokens[row];
let last = query_tokens[tile.x + tile.y - 1u];
let first = first_key(tile.z, query_tokens[tile.x]);
//#else
if (lane >= tile.y) { return; }
let row = tile.x + lane;
let token = query_tokens[row];
let last = token;
let first = first_key(tile.z, token);
//#end
