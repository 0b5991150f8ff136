"""How long the page takes from a key to the frame that shows the next melody."""

from __future__ import annotations

# Records the ms of each such wait in `window.waits`, from the browser's time of the key. The page's
# own work after that frame, such as sending the answer, is left out.
RECORDER = """([rolls, keys]) => {
    window.waits = [];
    let since = 0, drawn = false;
    const frame = new MessageChannel();
    frame.port1.onmessage = () => {
        window.waits.push(performance.now() - since);
        since = 0;
    };
    const look = () => requestAnimationFrame(() => drawn ? frame.port2.postMessage('') : look());
    addEventListener('keydown', (event) => {
        if (since || !keys.includes(event.key)) return;
        if (document.querySelector('#melody').hidden) return;
        since = event.timeStamp;
        drawn = false;
        look();
    }, true);
    const seen = new MutationObserver(() => { drawn = true; });
    const notes = { childList: true, subtree: true };
    for (const roll of document.querySelectorAll(rolls)) seen.observe(roll, notes);
}"""
