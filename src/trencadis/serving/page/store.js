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

/** Returns the results of requests to the store once all of them are written, or none. */
async function within(mode, act) {
  const opened = await database();
  try {
    const transaction = opened.transaction(STORE, mode);
    const written = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const requests = act(transaction.objectStore(STORE));
    const [results] = await Promise.all([Promise.all(requests.map(finished)), written]);
    return results;
  } finally {
    opened.close();
  }
}

/** Returns all pictures, newest first. */
export async function readAll() {
  const [pictures] = await within("readonly", (store) => [store.getAll()]);
  return pictures.reverse();
}

/** Adds pictures, oldest first; those with an `id` are put back into their places. Returns their ids. */
export const put = (pictures) => within("readwrite", (store) => pictures.map((picture) => store.put(picture)));
export const remove = (id) => within("readwrite", (store) => [store.delete(id)]);
export const clear = () => within("readwrite", (store) => [store.clear()]);
