import type { Metadata, Viewport } from "next";
import { headers } from "next/headers";
import type { ReactNode } from "react";

import { Nav } from "@/components/nav";

import "./globals.css";

export const metadata: Metadata = {
  title: { default: "The picture shop", template: "%s · The picture shop" },
  description: "An example shop for the Illustration Personalizer",
};
export const viewport: Viewport = { colorScheme: "light dark" };

export default async function Layout({ children }: { children: ReactNode }) {
  await headers(); // each page is made for its request: it carries the nonce of its Content-Security-Policy
  return (
    <html lang="en">
      <body>
        <a className="skip" href="#main">
          Skip to the content
        </a>
        <header>
          <p className="brand">The picture shop</p>
          <Nav />
        </header>
        <main id="main">{children}</main>
        <footer>An example of a site that uses the Illustration Personalizer. Photos go to its own service.</footer>
      </body>
    </html>
  );
}
