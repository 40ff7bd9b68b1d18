Console.WriteLine("warmline");
