// SPDX-License-Identifier: Apache-2.0
// Fetch the files of the page and check their hashes; the service worker keeps them for use without a connection.

/**
 * Fetch a file; report the bytes as they come.
 *
 * entry: {bytes, sha256} of app.json. Browsers have hashes in secure contexts only (https or this computer).
 */
export async function fetchFile(name, entry, onBytes) {
  const reply = await fetch(name);
  if (!reply.ok) throw new Error(`${name} cannot be loaded (status ${reply.status}): reload the page`);
  const data = new Uint8Array(entry.bytes);
  const reader = reply.body.getReader();
  let size = 0;
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    if (size + chunk.value.length > data.length) throw changed(name);
    data.set(chunk.value, size);
    size += chunk.value.length;
    onBytes(chunk.value.length);
  }
  if (size !== data.length || (crypto.subtle && (await sha256(data)) !== entry.sha256)) throw changed(name);
  return data;
}

const changed = (name) => new Error(`${name} is not the file that belongs to this page: reload the page`);

async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return app.json. */
export async function fetchApp() {
  const reply = await fetch("app.json");
  if (!reply.ok) throw new Error(`app.json cannot be loaded (status ${reply.status})`);
  return reply.json();
}

/** Wait until a service worker has stored all files; it becomes redundant if one of them cannot be stored. */
function activated(worker) {
  return new Promise((resolve, reject) => {
    const check = () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") reject(new Error("the files cannot be stored"));
    };
    worker.addEventListener("statechange", check);
    check();
  });
}

/**
 * Register the service worker, or remove one that an earlier page at this address has left.
 *
 * Returns "kept" once everything on the page is stored in the browser, "none" if the page is not stored.
 */
export async function keepOffline(app, onUpdate) {
  if (!("serviceWorker" in navigator)) return "none";
  if (!app.offline) {
    const found = await navigator.serviceWorker.getRegistration();
    await found?.unregister();
    return "none";
  }
  const had = navigator.serviceWorker.controller !== null;
  navigator.serviceWorker.addEventListener("controllerchange", () => had && onUpdate());
  const registration = await navigator.serviceWorker.register("service-worker.js");
  await activated(registration.installing ?? registration.waiting ?? registration.active);
  return "kept";
}
