import type { Metadata } from "next";

import { TryOnForm } from "@/components/try-on-form";

export const metadata: Metadata = { title: "Try on" };

export default function TryOnPage() {
  return (
    <>
      <h1>See it on yourself</h1>
      <p>Your photo and one of the garment become a picture of you in it.</p>
      <TryOnForm />
    </>
  );
}
