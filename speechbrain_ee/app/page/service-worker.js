// SPDX-License-Identifier: Apache-2.0
// Stores all files of the page in the browser when it is first opened, and answers from there: the page works offline.

const BUILD = "BUILD";
const FILES = ["FILES"];
const PREFIX = `speechbrain-ee ${self.registration.scope} `;

async function store() {
  const cache = await caches.open(PREFIX + BUILD);
  // One after another, so that the page's own requests come through; files that both need come from the HTTP cache.
  for (const name of FILES) if (!(await cache.match(name))) await cache.add(new Request(name, { cache: "no-cache" }));
  await self.skipWaiting();
}

async function removeEarlier() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== PREFIX + BUILD).map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(PREFIX + BUILD);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(store()));
self.addEventListener("activate", (event) => event.waitUntil(removeEarlier()));
self.addEventListener("fetch", (event) => {
  const isOurs = event.request.method === "GET" && event.request.url.startsWith(self.registration.scope);
  if (isOurs) event.respondWith(answer(event.request));
});
