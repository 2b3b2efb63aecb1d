// Pictures that survive a reload, in the browser's IndexedDB.

const NAME = "trencadis";
const STORE = "pictures";

function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function database() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
  return finished(request);
}

/** Does something with the store, and returns its result once it is written. */
async function within(mode, act) {
  const opened = await database();
  try {
    const transaction = opened.transaction(STORE, mode);
    const written = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const [result] = await Promise.all([finished(act(transaction.objectStore(STORE))), written]);
    return result;
  } finally {
    opened.close();
  }
}

/** Returns all pictures, newest first. */
export async function readAll() {
  const pictures = await within("readonly", (store) => store.getAll());
  return pictures.reverse();
}

/** Adds a picture, or puts one with an `id` back into its place; returns its `id`. */
export const put = (picture) => within("readwrite", (store) => store.put(picture));
export const remove = (id) => within("readwrite", (store) => store.delete(id));
export const clear = () => within("readwrite", (store) => store.clear());
